# Three images from one wheel:
#   docker build -t tenclip:0.1.0 .                              the server (the default target)
#   docker build -t tenclip-batch:0.1.0 --target batch .         the client for batch work: no decoder, no runtime
#   docker build -t tenclip-train:0.1.0 --target train .         training, with torch
#   docker build -t tenclip-jobs:0.1.0 --build-arg EXTRA=jobs .  the server's image, for `tenclip batch` too
#   docker build -t tenclip:0.1.0-gpu --build-arg EXTRA=gpu .    the server with TensorRT, for machines with a GPU
# Whoever publishes them should pin PYTHON_IMAGE by digest (python:...@sha256:...).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# --- wheel: the distribution, exactly as it would be uploaded ---
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /src
COPY constraints.txt ./
RUN --mount=type=cache,target=/root/.cache/pip pip install --constraint constraints.txt build hatchling
COPY pyproject.toml README.md LICENSE ./
COPY training training
COPY export export
COPY serving serving
COPY clients clients
RUN python -m build --wheel --no-isolation --outdir /dist

# --- environments: built outside of the final images, so that pip and its cache stay behind ---
FROM ${PYTHON_IMAGE} AS serve-environment
ARG EXTRA=serve
COPY constraints.txt /
RUN python -m venv --without-pip /opt/tenclip
COPY --from=wheel /dist /dist
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tenclip install --constraint /constraints.txt "$(echo /dist/*.whl)[${EXTRA}]"
# Nothing that serves may bring torch: it would triple the image. A dependency that does so fails the build here.
RUN /opt/tenclip/bin/python -c "import importlib.util as i, sys; sys.exit(i.find_spec('torch') and 'torch got in')"

FROM ${PYTHON_IMAGE} AS batch-environment
COPY constraints.txt /
RUN python -m venv --without-pip /opt/tenclip
COPY --from=wheel /dist /dist
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tenclip install --constraint /constraints.txt "$(echo /dist/*.whl)[batch]"

FROM ${PYTHON_IMAGE} AS train-environment
COPY constraints.txt /
RUN python -m venv --without-pip /opt/tenclip
COPY --from=wheel /dist /dist
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/tenclip install --constraint /constraints.txt "$(echo /dist/*.whl)[train]"

# --- what all images share ---
FROM ${PYTHON_IMAGE} AS runtime
LABEL org.opencontainers.image.title="tenclip" \
      org.opencontainers.image.description="Train, export and serve video action-recognition models." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
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
RUN python -c "import av, cv2, grpc, onnxruntime, openvino"
# gRPC, and Prometheus metrics over HTTP.
EXPOSE 7411 9411
# The first check that succeeds ends the start period. Kubernetes does not read this; it has probes of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python", "-m", "tenclip_serving.healthcheck", "127.0.0.1:7411", "--service", "tenclip.v1.VideoRecognition"]
# Further options follow: docker run -v ./models:/models:ro -p 7411:7411 tenclip:0.1.0 --log-format json
ENTRYPOINT ["tenclip", "serve", "/models", "--host", "0.0.0.0"]
