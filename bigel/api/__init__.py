"""Lists over HTTP: what is asked for, which model answers, and the application around both."""
