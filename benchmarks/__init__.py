"""Measurements that compare in one run; `docs/performance.md` has what they printed."""
