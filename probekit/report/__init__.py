"""What a user sees: tables, lists, plans and pictures."""
