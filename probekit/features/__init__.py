"""Dense features: extraction, the store on disk, and where features lie on the photograph."""
