"""What the rehearsal's user may do: everything, for no policy of IAM is looked at here.

Source: IAM API reference, SimulatePrincipalPolicy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from fruits_cli.rehearsal.wire import Answer, xml_answer

Form = Mapping[str, Sequence[str]]
_XMLNS = "https://iam.amazonaws.com/doc/2010-05-08/"


def everything_allowed(form: Form) -> Answer:
    """SimulatePrincipalPolicy: each action on each resource is allowed, in one page."""
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        "<EvalDecision>allowed</EvalDecision>"
        "<MatchedStatements/><MissingContextValues/></member>"
        for action in _members(form, "ActionNames")
        for resource in _members(form, "ResourceArns") or ["*"]
    )
    return xml_answer(
        f'<SimulatePrincipalPolicyResponse xmlns="{_XMLNS}"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>r</RequestId>"
        "</ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )


def _members(form: Form, name: str) -> list[str]:
    """A list as the query protocol writes it: `Name.member.1`, `Name.member.2`, and so on."""
    found = [key for key in form if key.startswith(f"{name}.member.")]
    return [form[key][0] for key in sorted(found, key=lambda key: int(key.rpartition(".")[2]))]
