"""What the images consist of, under which licences, and which of it is known to be vulnerable."""
