"""The meshes that drills share: each takes seconds to start."""

from meshctl.drills.mesh import MeshPlan
from meshctl.faults import FaultLevel
from meshctl.standard_mesh import LEAVES

MAX_AGE_S = 4.0
"""Age at which trending is stale here: minutes would make a drill of its own."""

BYTES_PLAN = MeshPlan(
    leaf_faults=FaultLevel.BYTES,
    has_dynamodb_faults=True,
    extra_env={
        "candidates-trending": {
            "RECMESH_TRENDING_REFRESH_S": "0.8",
            "RECMESH_TRENDING_MAX_AGE_S": f"{MAX_AGE_S:g}",
        }
    },
)
"""One worker a leaf, connections that can be broken, and a DynamoDB that can be."""

HEDGED_LEAF = "similar"
CALLS_PLAN = MeshPlan(
    workers={"gateway": 2, HEDGED_LEAF: 2},
    leaf_faults=FaultLevel.CALLS,
    extra_env={"gateway-2": {"RECMESH_HEDGING": "false"}},
)
"""Calls that can be refused or slowed, seen by a gateway that hedges and one that does not."""

PLAIN_PLAN = MeshPlan()
"""Nothing between the parts."""

REDUNDANT_PLAN = MeshPlan(workers={"gateway": 2, **dict.fromkeys(LEAVES, 2)})
"""Two of everything."""
