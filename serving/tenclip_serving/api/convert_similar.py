"""Similar and ListIndexes: protobuf -> the core's dataclasses, and its results -> protobuf. Pure functions."""

from __future__ import annotations

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_index.metadata import IndexInfo
from tenclip_index.results import Filters, Neighbour
from tenclip_serving.api.convert import features_response, recognition_request
from tenclip_serving.neighbours.requests import DEFAULT_K, SimilarClips, SimilarRequest
from tenclip_serving.requests import Upload


def similar_request(request: pb.SimilarRequest, *, upload: Upload | None = None) -> SimilarRequest:
    """The request of the core; see `recognition_request`."""
    return SimilarRequest(
        video=recognition_request(request, upload=upload),
        index=request.index,
        k=request.k or DEFAULT_K,
        by_video=request.by_video,
        filters=Filters(
            labels=tuple(request.labels),
            sources=tuple(request.sources),
            without_videos=tuple(request.without_videos),
        ),
    )


def similar_response(result: SimilarClips, *, with_features: bool) -> pb.SimilarResponse:
    """Neighbours with the clips that they are nearest to, and what there is to say of the video."""
    extracted = features_response(result.recognition)
    clips = [clip.clip for clip in extracted.features.clips]
    return pb.SimilarResponse(
        neighbours=[_neighbour(n, clips[n.query_clip]) for n in result.neighbours],
        index=index_message(result.index, result.info),
        video=extracted.video,
        report=extracted.report,
        provenance=extracted.provenance,
        features=extracted.features if with_features else None,
        thumbnails=extracted.thumbnails,
    )


def index_message(name: str, info: IndexInfo) -> pb.Index:
    """An index as ListIndexes describes it."""
    return pb.Index(
        name=name,
        model=pb.ModelRef(name=info.model, version=info.version),
        weights=info.weights,
        kind=info.kind,
        dimension=info.dimension,
        clips=info.rows,
        videos=info.videos,
        recall_at_10=0.0 if info.recall is None else info.recall.value,
        sources=list(info.sources),
        protocols=info.protocols,
        labels=info.labels,
    )


def _neighbour(neighbour: Neighbour, clip: pb.ClipInfo) -> pb.Neighbour:
    return pb.Neighbour(
        score=neighbour.score,
        video=neighbour.video,
        clip_index=neighbour.clip_index,
        start_seconds=neighbour.start_seconds,
        end_seconds=neighbour.end_seconds,
        labels=neighbour.labels,
        source=neighbour.source,
        query_clip=clip,
    )
