"""What the models are made of: fields, links, saving, deleting, the rules, the journal and its way back."""
