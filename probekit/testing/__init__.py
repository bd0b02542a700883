"""For authors of plugins: conformance contracts, fakes and fixtures."""
