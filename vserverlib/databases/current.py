"""The open database, a proxy that the models are bound to."""

from __future__ import annotations

from typing import Any

from vserverlib import Error
from vserverlib.drivers import peewee


class Current(peewee.DatabaseProxy):
    """The open database: the models are bound to this proxy before and after connect()."""

    def __getattr__(self, name: str) -> Any:
        if self.obj is None:
            raise Error('no database is open: call connect("vserver.db") first')
        return getattr(self.obj, name)

    def atomic(self, *args: Any, **options: Any) -> Any:
        return self.__getattr__("atomic")(*args, **options)

    def transaction(self, *args: Any, **options: Any) -> Any:
        return self.__getattr__("transaction")(*args, **options)

    def savepoint(self) -> Any:
        return self.__getattr__("savepoint")()


database = Current()
