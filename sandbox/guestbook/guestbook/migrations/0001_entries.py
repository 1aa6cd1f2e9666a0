"""The entries."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=80)),
                ("words", models.TextField()),
                ("written", models.DateTimeField(auto_now_add=True)),
                ("greeted", models.BooleanField(default=False, db_default=False)),
            ],
        )
    ]
