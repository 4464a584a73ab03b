"""Templates, styles, scripts and messages, and what makes a page of them in the reader's language."""
