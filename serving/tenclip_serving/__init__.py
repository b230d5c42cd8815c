"""The gRPC server over bundles.

The path of a request, room by room: `api` (protobuf in and out), `engine` (one request from decode to answer),
`intake` (admission control, uploads, paths, URIs), `decoding` (clips from expendable processes), `scheduling` (clips of
many videos share batches), `runtimes` (what executes the network). `models` says which bundles are served, `security`
who may ask, `telemetry` what is measured and logged. `config` holds all settings, `settings` where they come from, and
`server` puts everything together.
"""
