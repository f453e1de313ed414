"""A recommender in one process, as stock parts make it: FastAPI, Annoy, numpy, LightGBM."""
