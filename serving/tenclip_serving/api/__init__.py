"""The gRPC surface: services, their messages, health, and the interceptor that maps errors to status codes."""
