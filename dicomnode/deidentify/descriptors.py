"""Descriptions with only those words in them that are known to name no one (Clean Descriptors Option, PS3.15 E.3.5)."""

from __future__ import annotations

import re

from dicomnode.deidentify.values import words

KNOWN = words(
    """
    ct mr mri pet pt nm us cr dx xa rt suv hu ac nac wb wholebody whole body head neck brain skull face sinus orbit
    orbits ear ears spine cervical thoracic lumbar sacral sacrum thorax chest lung lungs heart cardiac coronary aorta
    mediastinum breast rib ribs abdomen abdominal liver kidney kidneys pancreas spleen adrenal bowel colon bladder
    prostate pelvis pelvic uterus hip hips femur thigh knee knees leg legs foot feet ankle shoulder arm arms elbow
    wrist hand hands extremity extremities joint bone bones soft tissue muscle skin vessel vessels artery arteries
    vein veins carotid dental tooth teeth jaw mandible maxilla prosthesis implant metal left right bilateral upper
    lower anterior posterior lateral medial proximal distal supine prone axial ax coronal cor sagittal sag oblique
    transverse tra transversal localizer scout topogram surview survey scanogram planning mpr mip minip vrt 3d 2d 4d
    recon reconstruction reconstructed reformat reformatted derived original primary secondary thin thick slice slices
    fine standard std sharp smooth medium detail edge kernel filter filtered window bolus native plain unenhanced
    contrast enhanced iv oral with without pre post km ce cm kv mas mm ml sec min phase phases arterial venous portal
    portalvenous delayed late early equilibrium dynamic perfusion static gated respiratory resp inspiration expiration
    insp exp breath hold free breathing average avg mean maximum minimum sum low high dose lowdose ultra fast routine
    follow up followup baseline staging restaging screening diagnostic attenuation corrected correction uncorrected
    noncorrected ctac tof psf osem fbp iterative iteration iterations subset subsets mar metal artifact artefact
    reduction denoised denoising synthetic fdg psma ga68 f18 18f 68ga gallium fluorine dotatate choline t1 t2 t1w t2w
    pd pdw flair stir tirm dwi adc swi gre se tse fse epi tfe ffe vibe dixon mprage space haste trufi fiesta bssfp fat
    sat fs fatsat water in opp opposed inphase outphase out map maps trace b0 value diffusion tensor dti fa bold fmri
    asl angio angiography mra cta ctp ctpa tra tap cap kub hrct cbct spiral helical sequential axialscan volume series
    study exam examination protocol scan acquisition image images view views ap pa lat and or of the for to in on at
    plus minus no non
    """
)
_BETWEEN = re.compile(r"[\s_;:/()\[\]+\-]+|,(?!\d)")
_MEASURE = re.compile(r"\d{1,3}([.,]\d{1,2})?(mm|cm|ml|kv|mas|s|sec|min|mgy|mbq|hz|t|d|deg)")
_NUMBER = re.compile(r"\d{1,3}([.,]\d{1,2})?")
_DIGITS = re.compile(r"[\d.,]+")
_KERNEL = re.compile(r"[bhdiqu][rfhsv]?\d{2}[fsmhr]?(_\d)?|fc\d{2}|ub|ua|[yj]b|b\d{3,4}")


def cleaned(text: str, *, most: int) -> str:
    """The known words, a short number and kernels of a description, in their order, at most so many characters.

    Numbers that stand with others may be a date, a telephone number or an identifier: then none without a unit stays.
    """
    parts = [one.strip(".,*") for one in _BETWEEN.split(text)]
    alone = sum(bool(_DIGITS.fullmatch(word)) for word in parts) == 1
    kept = [word for word in parts if _known(word.casefold()) or (alone and _NUMBER.fullmatch(word))]
    while kept and len(" ".join(kept)) > most:
        kept.pop()
    return " ".join(kept)


def _known(word: str) -> bool:
    return word in KNOWN or bool(_MEASURE.fullmatch(word)) or bool(_KERNEL.fullmatch(word))
