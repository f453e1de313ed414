"""Names of span attributes for remote calls; OpenTelemetry's rpc conventions are not stable yet."""

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.response.status_code"
ERROR_TYPE = "error.type"

EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

GRPC = "grpc"

KEPT = "recmesh.kept"
"""Why a trace was exported: sampled, or unsampled and degraded, failed or slow."""
PREVIOUS_ATTEMPTS = "recmesh.previous_attempts"
"""How often gRPC had tried the same call before, when it had."""
