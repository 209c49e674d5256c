"""Drives Django through the DSN in argv[1]; prints one JSON object with what each use gave."""

import io
import json
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings

where = urlsplit(sys.argv[1])
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": where.hostname,
    "PORT": where.port,
    "USER": where.username,
    "PASSWORD": where.password,
    "NAME": where.path[1:],
    "CONN_MAX_AGE": None,
    "OPTIONS": {"server_side_binding": len(sys.argv) > 2},
}
settings.configure(
    DATABASES={"default": DATABASE}, INSTALLED_APPS=[], USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField"
)
django.setup()

from django.core.management import call_command
from django.db import ProgrammingError, connection, models, transaction
from django.db.models import Avg, Count, F, Sum

seen = {}
printed = io.StringIO()
call_command("inspectdb", stdout=printed)
seen["inspected"] = printed.getvalue()


class Customer(models.Model):
    name = models.TextField()
    city = models.TextField(null=True)

    class Meta:
        app_label, db_table, managed = "shop", "customers", False


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.DO_NOTHING)
    status = models.TextField()
    total = models.DecimalField(max_digits=10, decimal_places=2)
    note = models.TextField(null=True)

    class Meta:
        app_label, db_table, managed = "shop", "orders", False


class Note(models.Model):
    body = models.TextField()
    pinned = models.BooleanField(default=False)
    details = models.JSONField(default=dict)

    class Meta:
        app_label, db_table, managed = "shop", "notes", False


class Key(models.Model):
    secret = models.TextField()

    class Meta:
        app_label, db_table, managed = "shop", "api_keys", False


seen["orders"] = Order.objects.count()
seen["joined"] = list(Order.objects.select_related("customer").order_by("id").values_list("id", "customer__name")[:2])
seen["sums"] = [float(value) for value in Order.objects.aggregate(Sum("total"), Avg("total")).values()]
seen["grouped"] = list(Order.objects.values_list("customer__name").annotate(n=Count("id")).order_by("customer__name"))
seen["prefetched"] = sorted({order.customer.name for order in Order.objects.prefetch_related("customer")})
seen["iterated"] = [order.id for order in Order.objects.order_by("id").iterator(chunk_size=3)]
with transaction.atomic():
    note = Note.objects.create(body="django", details={"a": [1]})
    seen["found"] = Note.objects.filter(details__a__0=1).values_list("body", flat=True)[0]
    try:
        with transaction.atomic():
            list(Key.objects.all())
    except ProgrammingError as error:
        seen["hidden"] = error.__cause__.sqlstate
    Note.objects.filter(pk=note.pk).update(body=F("body"), pinned=True)
    seen["bulk"] = len(Note.objects.bulk_create([Note(body=f"bulk {n}") for n in range(3)]))
    note.refresh_from_db()
    seen["pinned"] = note.pinned
    seen["deleted"] = Note.objects.filter(body__startswith="bulk").delete()[0]
    note.delete()
try:
    Order.objects.all().delete()
except ProgrammingError as error:
    seen["verb"] = error.__cause__.sqlstate
seen["tables"] = sorted(connection.introspection.table_names())
seen["notes"] = Note.objects.count()
print(json.dumps(seen))
