"""The tables. `mood` is there from release 2 on, and no release needs it: each serves on the other's schema."""

from django.db import models


class Entry(models.Model):
    """What a guest wrote."""

    name = models.CharField(max_length=80)
    words = models.TextField()
    written = models.DateTimeField(auto_now_add=True)
    greeted = models.BooleanField(default=False, db_default=False)
