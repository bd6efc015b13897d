"""Who may use a server and how much: tokens, authentication, limits on requests, and the log of requests."""
