"""The page: a stream and what a person sees and teaches of it in a browser, from one process."""
