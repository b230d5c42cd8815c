"""Options of gRPC's server: keepalive and the life of client connections."""

from __future__ import annotations

from tenclip_serving.config import ServerConfig

# 0 would be no limit at all.
_PING_STRIKES = 2


def channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    """Options for `grpc.aio.server(options=...)`, whose durations are whole milliseconds."""
    options = [
        ("grpc.max_receive_message_length", config.max_message_mb << 20),
        ("grpc.max_send_message_length", -1),
        # On Linux two servers could share a port and each get half of the requests.
        ("grpc.so_reuseport", 0),
        # Clients ping while they wait for a long decode; with gRPC's default of five minutes that would be abuse.
        # Whoever pings more often than this is disconnected at the third time: two may have been held up on their way.
        ("grpc.http2.min_ping_interval_without_data_ms", _ms(config.client_ping_seconds)),
        ("grpc.http2.max_ping_strikes", _PING_STRIKES),
        # Also where no call runs, as with those who keep a connection: who has vanished should not stay open for hours.
        ("grpc.keepalive_time_ms", _ms(config.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _ms(config.keepalive_timeout_seconds)),
        # Or the ping would be waited for a minute, whatever the timeout of keepalive says.
        ("grpc.http2.ping_timeout_ms", _ms(config.keepalive_timeout_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if config.max_connection_idle_seconds:
        options.append(("grpc.max_connection_idle_ms", _ms(config.max_connection_idle_seconds)))
    if config.max_connection_age_seconds:
        options += [
            ("grpc.max_connection_age_ms", _ms(config.max_connection_age_seconds)),
            ("grpc.max_connection_age_grace_ms", _ms(config.max_connection_age_grace_seconds)),
        ]
    return options


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000)) if seconds else 0
