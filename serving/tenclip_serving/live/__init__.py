"""Streams that go on: sliding windows with bounded latency, smoothed events, and connections that come back."""
