"""Reports, by subject: each is a `Report` (template, header, JSON fields) and the function that fetches its rows."""
