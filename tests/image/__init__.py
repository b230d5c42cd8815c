"""Building, checking and measuring the images with a real engine; `tenclip_image` is what runs inside of a build."""
