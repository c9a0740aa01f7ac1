"""One module per command. It has `command`, a function with typer's annotations, or `app`, a typer.Typer of several."""
