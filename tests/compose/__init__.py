"""The container images and docker-compose.yml, run for real; not collected by pytest."""
