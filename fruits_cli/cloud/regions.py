"""In which place, and under whose law, each region of AWS lies.

Source: AWS documentation, Regions and Availability Zones (names of regions and their locations).
"""

from __future__ import annotations

_PLACES = {
    "af-south-1": "Cape Town, South Africa",
    "ap-east-1": "Hong Kong, China",
    "ap-east-2": "Taipei, Taiwan",
    "ap-northeast-1": "Tokyo, Japan",
    "ap-northeast-2": "Seoul, South Korea",
    "ap-northeast-3": "Osaka, Japan",
    "ap-south-1": "Mumbai, India",
    "ap-south-2": "Hyderabad, India",
    "ap-southeast-1": "Singapore",
    "ap-southeast-2": "Sydney, Australia",
    "ap-southeast-3": "Jakarta, Indonesia",
    "ap-southeast-4": "Melbourne, Australia",
    "ap-southeast-5": "Malaysia",
    "ap-southeast-6": "New Zealand",
    "ap-southeast-7": "Thailand",
    "ca-central-1": "Montreal, Canada",
    "ca-west-1": "Calgary, Canada",
    "cn-north-1": "Beijing, China",
    "cn-northwest-1": "Ningxia, China",
    "eu-central-1": "Frankfurt, EU",
    "eu-central-2": "Zurich, Switzerland",
    "eu-north-1": "Stockholm, EU",
    "eu-south-1": "Milan, EU",
    "eu-south-2": "Spain, EU",
    "eu-west-1": "Ireland, EU",
    "eu-west-2": "London, UK",
    "eu-west-3": "Paris, EU",
    "eusc-de-east-1": "Germany, EU",
    "il-central-1": "Tel Aviv, Israel",
    "me-central-1": "UAE",
    "me-south-1": "Bahrain",
    "mx-central-1": "Mexico",
    "sa-east-1": "Sao Paulo, Brazil",
    "us-east-1": "N. Virginia, USA",
    "us-east-2": "Ohio, USA",
    "us-gov-east-1": "GovCloud East, USA",
    "us-gov-west-1": "GovCloud West, USA",
    "us-west-1": "N. California, USA",
    "us-west-2": "Oregon, USA",
}


def with_place(region: str) -> str:
    """`eu-west-3 (Paris, EU)`; a region that is not known here stays as it is."""
    return f"{region} ({_PLACES[region]})" if region in _PLACES else region
