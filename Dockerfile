# The gateway as a container: the locked runtime dependencies, the package, and a user who owns nothing.
#
#   docker build -t modelplex .
#
# Inside a container 127.0.0.1 is the container's own, so a published port needs a listener that the bridge reaches;
# the plain form suits agents in the same network namespace (`--network container:NAME`), the last one needs no network.
#
#   docker run --rm -v "$PWD/config.toml:/work/config.toml:ro" -e OPENAI_API_KEY modelplex
#   docker run --rm -v "$PWD/config.toml:/work/config.toml:ro" -e OPENAI_API_KEY --network host modelplex --http ":8080"
#   docker run --rm -v "$PWD/config.toml:/work/config.toml:ro" -e OPENAI_API_KEY -v "$PWD/socket:/socket" \
#       --user "$(id -u):$(id -g)" modelplex --socket /socket/modelplex.socket
#
# In the last form the folder ./socket is shared with the agents, and the socket file belongs to the user who runs it.

FROM python:3.13-slim AS build
WORKDIR /build
COPY .ci/uv.txt .ci/uv.txt
RUN python -m venv /uv && /uv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r .ci/uv.txt
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/modelplex
# The dependencies first, from the lock alone: they change less often than the source.
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --locked --no-dev --no-install-project --no-cache
COPY README.md LICENSE ./
COPY src src
RUN /uv/bin/uv sync --locked --no-dev --no-editable --no-cache

FROM python:3.13-slim
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin modelplex \
    && install -d -o modelplex -g modelplex /socket /work
COPY --from=build /opt/modelplex /opt/modelplex
ENV PATH=/opt/modelplex/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /work
USER modelplex
ENTRYPOINT ["modelplex"]
