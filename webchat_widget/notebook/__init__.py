"""The notebook's side: the widget, and Python in a kernel as a client of its server."""
