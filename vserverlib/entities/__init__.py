"""The base of the models: fields, links, lists, filters, saving, deleting, rules, the journal and undo."""
