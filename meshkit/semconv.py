"""Names of span attributes for remote calls; OpenTelemetry's rpc conventions are not stable yet."""

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.response.status_code"
ERROR_TYPE = "error.type"

GRPC = "grpc"
