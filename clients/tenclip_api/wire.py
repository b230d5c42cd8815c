"""Keys of gRPC metadata that servers send and clients read."""

from __future__ import annotations

# In the trailing metadata of a failed call: `TenclipError.reason` ...
REASON_KEY = "tenclip-reason"
# ... and when to try again, for `Overloaded`.
RETRY_AFTER_KEY = "tenclip-retry-after-seconds"
# In the metadata of a call, where the caller names it, and in the trailing metadata of every answer.
REQUEST_ID_KEY = "tenclip-request-id"
# gRPC's own: a negative value tells a client's retry policy not to send the call again.
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
