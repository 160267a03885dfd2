"""Commands and demos: thin, no network of their own."""
