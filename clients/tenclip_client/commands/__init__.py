"""The sub-commands of the client, one file each. Only light modules are imported here; see `tenclip_client.cli`."""

from tenclip_client.commands.bench import bench
from tenclip_client.commands.features import features
from tenclip_client.commands.live import live
from tenclip_client.commands.models import models
from tenclip_client.commands.predict import predict

__all__ = ["bench", "features", "live", "models", "predict"]
