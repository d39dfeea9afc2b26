//! Filters, scorers, pickers and profiles that turn matches and loads into a decision.
