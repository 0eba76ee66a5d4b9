"""Verdicts on the account: who we are, bucket, roles, keys, public access, clusters; pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fruits_cli.cloud.account import Identity, LinkedRole, OpenRule, PublicAccess, RoleFacts
from fruits_cli.cloud.clusters import Cluster
from fruits_cli.cloud.policies import SERVICE_POLICY_ARN, ec2_trust_policy, emr_trust_policy
from fruits_cli.doctor.findings import Finding, failing, not_asked, ok
from fruits_cli.errors import AccessDenied
from fruits_cli.tunnel.keys import bare_print

# AWS refuses requests whose time is five minutes off. Source: IAM user guide, Signature Version 4.
_SKEW_LIMIT_S, _SKEW_NOTE_S = 300, 60
_EC2, _EMR = "ec2.amazonaws.com", "elasticmapreduce.amazonaws.com"
INLINE_POLICY = "fruits"
# None: nobody lets us ask what we may do.
Denied = Collection[str] | None
_ASK_FOR_RIGHTS = "Ask who administers the account for"


def to_be_made(name: str, what: str, denied: Denied) -> Finding:
    """What is missing is no fault as long as the caller may make it."""
    if denied:
        rights = ", ".join(sorted(denied))
        return failing(
            name, f"{what} is missing, and you may not make it.", f"{_ASK_FOR_RIGHTS} {rights}."
        )
    doubt = "; whether you may could not be asked" if denied is None else ""
    return ok(name, f"{what} will be made by the first launch{doubt}")


def credentials(identity: Identity) -> Finding:
    """Who AWS takes us for."""
    return ok("credentials", f"{identity.user} of account {identity.account_id}")


def clock(ahead_s: float | None) -> Finding:
    """Whether this machine's clock is near enough to AWS's; seconds ahead of it."""
    if ahead_s is None:
        return not_asked("clock", "AWS did not tell the time")
    off_s = round(abs(ahead_s))
    said = f"{off_s} s {'ahead of' if ahead_s > 0 else 'behind'} AWS"
    if off_s >= _SKEW_LIMIT_S:
        return failing(
            "clock",
            f"{said}; requests are refused from {_SKEW_LIMIT_S} s on.",
            "Set this machine's clock by NTP: timedatectl set-ntp true",
        )
    if off_s > _SKEW_NOTE_S:
        return ok("clock", f"{said}; from {_SKEW_LIMIT_S} s on requests are refused")
    return ok("clock", f"within {_SKEW_NOTE_S} s of AWS's")


def region(name: str, known: Collection[str], enabled: Collection[str] | None) -> Finding:
    """Whether EMR is in the region, and the account may use it.

    known: without asking. enabled: the account's, None before it was asked.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 1) or ["eu-west-3"]
        return failing("region", f"{name} is no region of EMR's.", f"Give --region {near[0]}.")
    if enabled is not None and name not in enabled:
        return failing(
            "region",
            f"{name} is not enabled for this account.",
            f"Enable it, aws account enable-region --region-name {name}, or give another --region.",
        )
    return ok("region", name)


def bucket(name: str, lies_in: str | None, region: str, denied: Denied) -> Finding:
    """Whether the bucket lies in the cluster's region; None where there is no such bucket."""
    if lies_in is None:
        return to_be_made("bucket", f"{name} in {region}", denied)
    if lies_in != region:
        return failing(
            "bucket",
            f"{name} lies in {lies_in}, and the cluster would run in {region}.",
            f"Give --region {lies_in}, or another --bucket.",
        )
    return ok("bucket", f"{name} in {lies_in}")


def foreign_bucket(refusal: AccessDenied) -> Finding:
    """A bucket that exists and may not be used: the name is another account's, most of all."""
    return failing("bucket", str(refusal), refusal.hint)


def linked_role(question: str, role: LinkedRole, exists: bool, denied: Denied) -> Finding:
    """A service-linked role, without which a new account refuses the first cluster, or Spot."""
    return ok(question, role.name) if exists else to_be_made(question, role.name, denied)


def instance_role(role: str, facts: RoleFacts | None, denied: Denied) -> Finding:
    """Whether the nodes' role and its profile of the same name are whole."""
    name = "EC2 role"
    if facts is None:
        return to_be_made(name, f"{role} with its instance profile", denied)
    if _EC2 not in facts.services:
        return _wrong_trust(name, role, _EC2, json.dumps(ec2_trust_policy()))
    if facts.profile and role not in facts.profile:
        return failing(
            name,
            f"Instance profile {role} holds role {facts.profile[0]}; EMR wants both of one name.",
            "aws iam remove-role-from-instance-profile "
            f"--instance-profile-name {role} --role-name {facts.profile[0]}",
        )
    if INLINE_POLICY not in facts.inline or not facts.profile:
        return to_be_made(name, f"The rest of {role} (policy or instance profile)", denied)
    return ok(name, f"{role} with its instance profile")


def service_role(role: str, facts: RoleFacts | None, account_id: str, denied: Denied) -> Finding:
    """Whether EMR may take its role, and the managed policy is attached to it."""
    name = "EMR role"
    if facts is None:
        return to_be_made(name, role, denied)
    if _EMR not in facts.services:
        return _wrong_trust(name, role, _EMR, json.dumps(emr_trust_policy(account_id)))
    policy = SERVICE_POLICY_ARN.rpartition("/")[2]
    if INLINE_POLICY not in facts.inline:
        return to_be_made(name, f"The rest of {role} (its policies)", denied)
    if not any(arn.endswith(f"/{policy}") for arn in facts.attached):
        return failing(
            name,
            f"{role} lacks the managed policy {policy}.",
            f"aws iam attach-role-policy --role-name {role} --policy-arn {SERVICE_POLICY_ARN}",
        )
    return ok(name, f"{role} with {policy}")


def _wrong_trust(name: str, role: str, service: str, document: str) -> Finding:
    return failing(
        name,
        f"{role} exists, but {service} may not take it.",
        f"aws iam update-assume-role-policy --role-name {role} --policy-document '{document}'",
    )


def pass_role(denied: Mapping[str, Collection[str]]) -> Finding:
    """Whether we may hand the two roles to EMR and EC2. denied: by role."""
    lacking = [role for role, actions in denied.items() if actions]
    if lacking:
        return failing(
            "PassRole",
            f"You may not pass {' and '.join(lacking)}.",
            f"{_ASK_FOR_RIGHTS} iam:PassRole on {'it' if len(lacking) == 1 else 'them'}.",
        )
    return ok("PassRole", f"allowed for {' and '.join(denied)}")


def launch_rights(denied: Collection[str]) -> Finding:
    """Whether our policies let us start, feed and end clusters."""
    if denied:
        rights = ", ".join(sorted(denied))
        return failing("launch", f"You may not {rights}.", f"{_ASK_FOR_RIGHTS} {rights}.")
    return ok("launch", "your policies let you start, feed and end clusters")


def security_configuration(name: str, exists: bool, denied: Denied) -> Finding:
    """EMR's security configuration, which keeps the nodes' credentials behind IMDSv2."""
    if not exists:
        return to_be_made("security configuration", name, denied)
    return ok("security configuration", name)


def key_pair(name: str | None, fingerprint: str | None, prints: Collection[str] | None) -> Finding:
    """Whether the pair exists, and the key file is its key.

    fingerprint: as EC2 shows it. prints: those that the file can have at EC2, None without a file.
    """
    if name is None:
        return not_asked(
            "key pair", "no key_name is configured; the tunnel needs one, fruits run does not"
        )
    if fingerprint is None:
        return failing(
            "key pair",
            f"EC2 has no key pair {name} in this region.",
            "Give another --key-name, or make one: fruits init --key",
        )
    if prints is None:
        return ok("key pair", f"{name}; no key_file is configured to compare it with")
    if bare_print(fingerprint) not in prints:
        return failing(
            "key pair",
            f"The key file is not the key of {name}: EC2 shows {fingerprint}.",
            "Give the pair's own --key-file, or another --key-name.",
        )
    return ok("key pair", f"{name}, and the key file is its key")


def public_access(access: PublicAccess) -> Finding:
    """EMR's block of public access: fruits' own rules are for single addresses, so it may be on."""
    if not access.is_blocked:
        return ok("block public access", "off; fruits opens port 22 to single addresses alone")
    ports = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in access.permitted)
    but = f" but for port {ports}" if ports else ""
    return ok(
        "block public access",
        f"on{but}; fruits' rules, port 22 for single addresses, are not touched by it",
    )


def security_groups(rules: Sequence[OpenRule], access: PublicAccess) -> Finding:
    """Whether a leftover rule lets in the internet, or would make EMR refuse a cluster."""
    bad = [rule for rule in rules if _is_ours(rule) or not _is_permitted(rule, access)]
    if not bad:
        return ok("security groups", "no rule of fruits' or EMR's groups is open to the internet")
    rule = bad[0]
    ports = str(rule.first) if rule.first == rule.last else f"{rule.first}-{rule.last}"
    more = f" ({len(bad) - 1} more)" if len(bad) > 1 else ""
    flag = "--ip-permissions"
    kind = "Ipv6Ranges=[{CidrIpv6=" if ":" in rule.cidr else "IpRanges=[{CidrIp="
    return failing(
        "security groups",
        f"{rule.group_name} ({rule.group_id}) opens {ports} to {rule.cidr}{more}; "
        "EMR refuses clusters with such a group in a public subnet.",
        f"aws ec2 revoke-security-group-ingress --group-id {rule.group_id} {flag} "
        f"'IpProtocol=tcp,FromPort={rule.first},ToPort={rule.last},{kind}{rule.cidr}}}]'",
    )


def _is_ours(rule: OpenRule) -> bool:
    return rule.group_name.startswith("fruits-")


def _is_permitted(rule: OpenRule, access: PublicAccess) -> bool:
    if not access.is_blocked:
        return True
    return any(first <= rule.first and rule.last <= last for first, last in access.permitted)


@dataclass(frozen=True)
class Living:
    """A live cluster of fruits, its age, and its price so far where that is known."""

    cluster: Cluster
    minutes: float
    usd: float | None


def clusters(living: Sequence[Living], limit_min: int) -> Finding:
    """Live clusters and their dollars; one older than any may become is forgotten."""
    if not living:
        return ok("clusters", "none of fruits is live")
    told = "; ".join(_living_line(one) for one in living)
    old = [one.cluster.cluster_id for one in living if one.minutes > limit_min]
    if old:
        return failing(
            "clusters",
            f"{told}. Older than {limit_min} minutes: {', '.join(old)}.",
            "\n".join(f"fruits terminate --cluster {one}" for one in old),
        )
    return ok("clusters", told)


def _living_line(one: Living) -> str:
    cost = "at an unknown price" if one.usd is None else f"about ${one.usd:.2f}"
    name = f"{one.cluster.emr_name} ({one.cluster.cluster_id})"
    return f"{name} {one.cluster.state} for {one.minutes:.0f} minutes, {cost} so far"
