"""The schema, in `migrations`."""
