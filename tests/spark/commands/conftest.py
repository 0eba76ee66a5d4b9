from tests.support.one_machine import machine, machine_cache

__all__ = ["machine", "machine_cache"]
