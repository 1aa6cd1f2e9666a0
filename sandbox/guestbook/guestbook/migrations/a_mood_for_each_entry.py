"""A column that may stay empty; the migration's name has no number."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("guestbook", "0001_entries")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE guestbook_entry ADD COLUMN mood text",
            "ALTER TABLE guestbook_entry DROP COLUMN mood",
        )
    ]
