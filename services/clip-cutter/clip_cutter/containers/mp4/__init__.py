"""MP4 (ISO/IEC 14496-12), a file for a thing, named as the standard names it."""
