# Three images from one wheel, for linux/amd64 and linux/arm64; docs/image.md says how to build, pin and check them:
#   docker build -t tenclip:0.1.0 .                              the server (the default target)
#   docker build -t tenclip-batch:0.1.0 --target batch .         the client for batch work: no decoder, no runtime
#   docker build -t tenclip-train:0.1.0 --target train .         training, with torch
#   docker build -t tenclip-jobs:0.1.0 --build-arg EXTRA=jobs .  the server's image, for `tenclip batch` too
#   docker build -t tenclip:0.1.0-gpu --build-arg EXTRA=gpu .    the server with TensorRT, for machines with a GPU (amd64)
# EXTRA may name several, separated by commas: serve,http,otel.
# Whoever publishes them pins PYTHON_IMAGE by digest (python:...@sha256:...) and sets RELEASE=1, which insists on it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- wheel: the distribution, exactly as it would be uploaded; the same one on every architecture ---
FROM --platform=$BUILDPLATFORM ${PYTHON_IMAGE} AS wheel
ARG PYTHON_IMAGE
ARG RELEASE=0
RUN case "${RELEASE}:${PYTHON_IMAGE}" in \
      0:*|*@sha256:*) ;; \
      *) echo "RELEASE=${RELEASE} needs PYTHON_IMAGE by digest, as NAME@sha256:...; got ${PYTHON_IMAGE}" >&2; exit 1;; \
    esac
WORKDIR /src
COPY k8s/image /image
# A file with pip's settings, such as an index of your own, may come as the secret `pip.conf`; no layer keeps it.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    PYTHONPATH=/image python -m tenclip_image.install /opt/build --extras build
COPY pyproject.toml README.md LICENSE ./
COPY training training
COPY export export
COPY serving serving
COPY clients clients
ARG SOURCE_DATE_EPOCH=0
RUN SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} /opt/build/bin/python -m build --wheel --no-isolation --outdir /dist

# --- environments: built outside of the final images, so that pip and its cache stay behind ---
FROM ${PYTHON_IMAGE} AS environment
ENV PYTHONPATH=/image
# An engine that mixed up its bases would otherwise write the name of one architecture on the files of another.
ARG TARGETARCH=""
RUN case "${TARGETARCH}:$(uname -m)" in \
      :*|amd64:x86_64|arm64:aarch64) ;; \
      *) echo "the base image runs as $(uname -m), for ${TARGETARCH} is asked; there are amd64 and arm64" >&2; exit 1;; \
    esac
COPY k8s/image /image
# What writes the bill of materials.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python -m tenclip_image.install /opt/sbom --extras sbom
COPY constraints.txt /image/
COPY --from=wheel /dist /dist
ARG SOURCE_DATE_EPOCH=0

FROM environment AS serve-environment
ARG EXTRA=serve
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    python -m tenclip_image.install /opt/tenclip /dist/*.whl --extras "${EXTRA}" --sbom /opt/sbom
# Nothing that serves may bring torch: it would triple the image. A dependency that does so fails the build here.
RUN /opt/tenclip/bin/python -c "import importlib.util as i, sys; sys.exit(i.find_spec('torch') and 'torch got in')"

FROM environment AS batch-environment
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    python -m tenclip_image.install /opt/tenclip /dist/*.whl --extras batch --sbom /opt/sbom

# Which build of torch is right depends on the machine, so there is no lock.
FROM environment AS train-environment
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    python -m tenclip_image.install /opt/tenclip /dist/*.whl --extras train --sbom /opt/sbom

# --- what all images share ---
FROM ${PYTHON_IMAGE} AS runtime
# Of the source: where it is, the commit, and its time as RFC 3339. `make image` fills them in.
ARG SOURCE=""
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="tenclip" \
      org.opencontainers.image.description="Train, export and serve video action-recognition models." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# The root file system may be mounted read-only: bytecode was compiled at installation, and what wants a home directory
# or a scratch file finds /tmp.
ENV PATH=/opt/tenclip/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /tmp
# A number, for Kubernetes cannot tell from a name that a user is not root.
USER 10001:10001
STOPSIGNAL SIGTERM

# --- tenclip-batch ---
FROM runtime AS batch
COPY --from=batch-environment /opt/tenclip /opt/tenclip
RUN python -c "import grpc, pyarrow"
ENTRYPOINT ["tenclip"]
CMD ["--help"]

# --- tenclip-train: `torchrun ... --no-python tenclip train` in the place of the entry point for several processes ---
FROM runtime AS train
COPY --from=train-environment /opt/tenclip /opt/tenclip
RUN python -c "import av, cv2, torch" && torchrun --help >/dev/null
ENTRYPOINT ["tenclip"]
CMD ["--help"]

# --- tenclip ---
FROM runtime AS server
COPY --from=serve-environment /opt/tenclip /opt/tenclip
# The wheels carry their own shared libraries, or find them in this base: a missing one fails the build, not the start.
RUN python -c "import av, cv2, grpc, onnxruntime, openvino; assert 'CPU' in openvino.Core().available_devices"
# gRPC, and Prometheus metrics over HTTP.
EXPOSE 7411 9411
# The first check that succeeds ends the start period. Kubernetes does not read this; it has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python", "-m", "tenclip_serving.healthcheck", "127.0.0.1:7411", "--service", "tenclip.v1.VideoRecognition"]
# Further options follow: docker run -v ./models:/models:ro -p 7411:7411 tenclip:0.1.0 --log-format json
ENTRYPOINT ["tenclip", "serve", "/models", "--host", "0.0.0.0"]
