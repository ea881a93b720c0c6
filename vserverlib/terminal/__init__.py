"""What a person sees and types at: tables, panels, bars, the prompt. All that knows rich or IPython is here."""
