"""A guestbook in Django: entries, pictures on a volume, and a worker that greets new guests."""
