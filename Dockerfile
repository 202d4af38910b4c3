# The gateway as a container: the locked runtime dependencies, the package, and an unprivileged user.
#
#   docker build -t modelplex .
#   docker run -p 11435:11435 -v "$PWD/config.toml:/config.toml" modelplex
#   docker run -p 8080:8080 -v "$PWD/config.toml:/config.toml" modelplex --http ":8080"
#   docker run -v "$PWD/config.toml:/config.toml" -v "$PWD/socket:/socket" modelplex --socket /socket/modelplex.socket
#
# docs/how-to/docker.md explains each of them. tests/test_container.py executes these steps and runs the commands.

FROM python:3.13-slim AS build
WORKDIR /build
COPY .ci/uv.txt .ci/uv.txt
RUN python -m venv /uv && /uv/bin/pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r .ci/uv.txt
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/modelplex
# The dependencies first, from the lock: they change less often than the source.
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
# A published port does not reach the container's loopback, so an address without a host means every interface of the container.
ENV MODELPLEX_DEFAULT_HOST=0.0.0.0 MODELPLEX_CONFIG=/config.toml
# It starts as root and first changes to the owner of the mounted socket folder, or to this user. `docker run --user` works too.
ENV MODELPLEX_RUN_AS=10001:10001
WORKDIR /work
EXPOSE 11435
ENTRYPOINT ["modelplex"]
