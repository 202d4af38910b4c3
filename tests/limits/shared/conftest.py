from tests.limits.shared.redis_server import kept_redis, redis

__all__ = ["kept_redis", "redis"]
