"""Templates, styles, scripts and translations, and the code that renders pages from them."""
