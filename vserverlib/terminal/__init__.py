"""The user interface in a terminal: tables, panels, bars and the prompt. Only this room imports rich."""
