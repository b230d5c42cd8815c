"""The gRPC server: a directory of bundles in, predictions and features of videos out. No torch.

A request's path, in reading order: servicer (protobuf ends here), engine (the core), plans (which clips and crops),
sources (which file), workers, decode_worker and answers (decoding in expendable processes), scheduler (whose clips run
next), runtimes (what executes the graph), aggregate (one answer out of many clips). Around them: config, repository,
parity, interceptor (errors to status codes), metrics, logs, server (starts and stops it all).
"""
