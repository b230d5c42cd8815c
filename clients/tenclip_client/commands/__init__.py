"""The sub-commands of the client, one file each. Only light modules are imported here; see `tenclip_client.cli`."""

from tenclip_client.commands.bench import bench
from tenclip_client.commands.features import features
from tenclip_client.commands.index import index
from tenclip_client.commands.live import live
from tenclip_client.commands.models import models
from tenclip_client.commands.predict import predict
from tenclip_client.commands.similar import similar

__all__ = ["bench", "features", "index", "live", "models", "predict", "similar"]
