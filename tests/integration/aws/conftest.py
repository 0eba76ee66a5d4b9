from tests.support.aws_on_moto import _clients, _moto, _no_account, aws

__all__ = ["_clients", "_moto", "_no_account", "aws"]
