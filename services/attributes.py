"""Names of the attributes that spans of the mesh carry: counts, versions and statuses only.

No id of a user or an item is among them: traces go to more people than answers do.
"""

LEAF = "recmesh.leaf"
ATTEMPT = "recmesh.attempt"
"""1 for the first call of a leaf, 2 for the one made because the first was slow."""
FAILURE = "recmesh.failure"
"""What was wrong with a call or with its answer, in the words of the gateway's failure policy."""
SOURCE_STATUS = "recmesh.source.status"
SOURCES = "recmesh.sources"
"""`name=status` of every source, those that were not asked included."""
DATA_AGE = "recmesh.source.data_age"
"""Seconds."""

SURFACE = "recmesh.surface"
TIER = "recmesh.tier"
RANKED_BY = "recmesh.ranked_by"
DEGRADED = "recmesh.degraded"
QUALITY = "recmesh.quality"
BUNDLE_VERSION = "recmesh.bundle.version"

PLAYS = "recmesh.plays"
"""Plays of the user that go on to sources and ranker."""
CANDIDATES_IN = "recmesh.candidates.in"
CANDIDATES_OUT = "recmesh.candidates.out"
SCORER = "recmesh.ranker.scorer"
"""`forest`: the ranker's own kernel; `lightgbm`: LightGBM itself, which takes longer."""
REMOVED = "recmesh.filter.removed"
ITEMS = "recmesh.items"
"""Items of the slate."""
FILLED = "recmesh.items.filled"
"""Those of them that came from the popularity list."""

SEGMENT = "recmesh.trending.segment"
SEGMENTS = "recmesh.trending.segments"
IS_FULL = "recmesh.trending.is_full"
"""Every wanted segment was read, not only new ones."""

HISTORY_STATUS = "recmesh.history.status"
HISTORY_LOOKUP = "recmesh.history.lookup"
"""Where a history came from: the cache, another request's read, a read of its own."""
