// Figures in words.

export const percent = (share) => `${(100 * share).toFixed(1)}%`;

export function seconds(value) {
  if (value < 0.01) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 100) return `${value.toFixed(1)} s`;
  return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
}

// A place in a video: `4.25 s`, and from 100 seconds on `2:05`, `1:00:03`.
export function moment(value) {
  if (value < 100) return `${Number(value.toFixed(2))} s`;
  const whole = Math.floor(value), two = (n) => String(n).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export const interval = (start, end) => `${moment(start)} to ${moment(end)}`;

// A score of unknown scale, to three digits.
export const number = (value) => (value === null ? "-" : String(Number(value.toPrecision(3))));

export const counted = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

export function bytes(size) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; size >= 1024 && unit < 3; unit++) size /= 1024;
  return `${unit ? size.toFixed(size < 10 ? 1 : 0) : size} ${units[unit]}`;
}
