"""The parts of the images, their licences, and their known vulnerabilities."""
